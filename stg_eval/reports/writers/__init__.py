"""Writes a `Table` in the format of a file's suffix. All text is escaped for where it lands."""

from stg_eval.reports.writers.csv_table import to_csv
from stg_eval.reports.writers.html_table import to_html
from stg_eval.reports.writers.latex import to_latex
from stg_eval.reports.writers.markdown import to_markdown

WRITERS = {".md": to_markdown, ".tex": to_latex, ".csv": to_csv, ".html": to_html}
