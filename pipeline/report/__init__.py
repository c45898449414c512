"""Tables, figures and the page that shows ours beside the paper's."""
