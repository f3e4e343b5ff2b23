"""Transfer learning as a DVC pipeline: dvc.yaml lists the stages, and each is a module here."""

from stages.program.starting import expect_interrupts

expect_interrupts()
