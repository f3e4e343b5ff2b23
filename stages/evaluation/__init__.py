"""Evaluation: metrics and plots of predictions, contact sheets of pictures, and Grad-CAM."""
