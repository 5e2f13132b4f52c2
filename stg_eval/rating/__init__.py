"""The human study (Appendix A2 of the paper): people rate the clips of a finished run, blind and shuffled.

    aspects     what is asked, and the words on the page
    design      who sees which clips, in which order (pure)
    study       the study of a run on disk: clips, raters, trials, ratings (SQLite)
    media       what a rater's browser gets: clips that size and headers do not tell apart, anchors, examples
    server      the page and its interface (FastAPI), page/ its HTML, script and style
    analysis    ratings -> means, preferences, reliability, checks of raters, agreement with automatic scores
    power       how many raters and clips a difference needs (by simulation)
    export      ratings.csv, its parquet twin and the summary beside a run's table.json

Needs the extra `rate` (FastAPI, uvicorn, krippendorff), which is imported late.
"""
