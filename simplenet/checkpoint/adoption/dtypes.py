import torch
def usable(sd,s): return {k:torch.as_tensor(v) for k,v in sd.items()},[]
