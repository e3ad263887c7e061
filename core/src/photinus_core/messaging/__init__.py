"""The sending side.

Messages are sealed and stored, and the leader of the namespace batches, sends and pins them.
"""
