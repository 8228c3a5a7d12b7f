"""Make the weights of others fit: names, dtypes, reparametrizations, labels."""
