from types import SimpleNamespace
def fold(sd): return SimpleNamespace(state_dict=dict(sd), notes=(), unfolded=())
