import torch,pickle
def is_torch_zip(names): return any(n.endswith('/data.pkl') for n in names) and not any('constants.pkl' in n for n in names)
def read_torch_zip(stream,device,source,mapped=None): return torch.load(stream,map_location=device,weights_only=True)
def read_pickle(stream,device,source):
    try: return torch.load(stream,map_location=device,weights_only=True)
    except Exception: stream.seek(0); return pickle.load(stream)
