"""The tables and the plot, from the raw results."""


def write(raw, path, plot):
    pass
