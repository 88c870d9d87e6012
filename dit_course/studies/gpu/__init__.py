"""Ten minutes of one GPU: a judge for colour, norms timed, few-step students, registers and timesteps in colour.

`python -m dit_course.studies.gpu.session --out FOLDER` runs all of it, each part in a process of its own with a time
limit; `--dry` runs two steps of each on anything. A part alone: `python -m dit_course.studies.gpu.judge --help`.
"""
