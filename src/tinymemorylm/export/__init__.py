"""A trained model in other programs' formats: Transformers, llama.cpp, ONNX; and on the hub.

In: a model directory. Out: files those programs read with no code of ours, and the way back.
"""
