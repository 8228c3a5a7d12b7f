"""Read any file that holds weights as data: nothing that a pickle names is imported or called."""
