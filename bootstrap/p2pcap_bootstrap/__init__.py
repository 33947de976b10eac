"""The coordinator: plans chunks, signs, serves the images, hands out tickets."""
