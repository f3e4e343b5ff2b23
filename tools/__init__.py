"""What people run by hand, each as `python -m tools.NAME`; nothing that a stage runs imports it."""

from stages.program.starting import expect_interrupts

expect_interrupts()
