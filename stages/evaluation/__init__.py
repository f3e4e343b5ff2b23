"""What a model is worth: metrics and plots of its predictions, sheets of pictures, and what it went by in them."""
