"""`python -m stg_eval.cli`: the command line without its console script."""

from stg_eval.cli import main

main()
