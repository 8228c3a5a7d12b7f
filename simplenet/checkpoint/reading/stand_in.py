class StandIn:
    def __init__(self, module='', name=''):
        self.module, self.name, self.args, self.kwargs, self.state, self.entries, self.items = module, name, (), {}, None, {}, []
    @property
    def qualified_name(self): return f"{self.module}.{self.name}"
