"""The stage visit and the passes of training as compiled code.

A room of its own, between the subproblem and the training: a compiled pass is one call that visits
every node of a path, so it knows of both. Nothing here is imported before a training asks for it;
`tables` turns a problem into flat arrays, the kernels read and write nothing else.
"""
