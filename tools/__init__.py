"""What people run by hand, each as `python -m tools.NAME`; nothing that a stage runs imports it."""
