"""What a run will come to, told before it: networks, cost, seconds, memory, disk, and what is missing.

Nothing is run and nothing is written. Networks are built without weights, and numbers of evaluations come from the
functions that a run itself asks: its nodes' plans, solvers' grids, the search on a stand-in for FID.
"""
