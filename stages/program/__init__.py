"""Running a program: checked params, error messages, locks, signals, progress, threads.

Nothing here changes a result; it only decides what is refused and what users read, the notes and reasons in
metrics/data.json among it. So no stage in dvc.yaml lists a file of it, and an edit here reruns nothing. Params are
passed on as params.yaml has them: the rooms that compute with them turn them into a cut, a seed or another number.
"""
