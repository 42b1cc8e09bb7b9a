"""What the mean of a picture is, as one function of one vector."""
