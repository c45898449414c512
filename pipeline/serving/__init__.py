"""A trained network that answers requests: pictures in whatever form they come, label maps out."""
