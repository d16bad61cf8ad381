"""A model that is compiled before it is served: a file that runs without the model's Python code.

Chapter 123.2b. ``program`` writes the model down as a graph, ``package`` compiles the graph and
loads the result, ``manifest`` says where the file may be loaded and what it takes, ``cached``
compiles once, ``onnx_files`` has the portable form and its int8 weights, ``break_even`` counts the
requests after which a compiler has paid, and ``padding`` keeps the number of shapes small.
"""
