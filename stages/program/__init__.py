"""Running a program: checked params, error messages, locks, signals, progress, threads.

Nothing here changes a byte of an output; it only decides what is refused and what users read. So no stage in dvc.yaml
lists a file of it, and an edit here reruns nothing. Params are passed on as params.yaml has them: the rooms that
compute with them turn them into a cut, a seed or another number.
"""
