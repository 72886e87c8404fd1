"""One module per command of `companion`; each holds a `typer.Typer` named `app`."""
