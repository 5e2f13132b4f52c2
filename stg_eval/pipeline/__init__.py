"""From a suite to a table: plan, run, score, estimate; sweeps, recipes of the paper, folders of videos, export."""
