"""The pretrained network: a catalogue of families, the chain of layers and its cuts, devices and processes."""
