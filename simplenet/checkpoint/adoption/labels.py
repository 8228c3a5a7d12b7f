def class_labels(v,n,s): return (list(map(str,v)),None) if isinstance(v,(list,tuple)) and len(v)==n else (None,None)
def find_labels(t): return [("classes",t["classes"])] if "classes" in t else []
