from collections import namedtuple
HEAD=4096
Kind=namedtuple('Kind','name remedy')
def kind_of(*a): return None
def kind_of_folder(*a): return Kind('a directory','give a file')
