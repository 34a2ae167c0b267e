"""`python -m lancemig` is `lancemig`."""

from lancemig.cli import main

main(prog_name="lancemig")
