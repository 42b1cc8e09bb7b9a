"""The network: ResNet, losses, training."""
