"""Running a program: params checked, mistakes put into sentences, locks, signals, progress, threads.

The contract of this room: what is here decides what is said and what is refused, never a byte of what is written. So
no stage in dvc.yaml lists a file of it, and an edit here reruns nothing. Params are handed on as params.yaml has them;
what turns them into a cut, a seed or any other number lives in the room that computes with it.
"""
