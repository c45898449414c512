"""A trained network as an ONNX graph, for programs that know neither torch nor this project."""
