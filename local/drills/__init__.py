"""The runbooks, carried out on the running local stack as an operator would: `make drill`."""
