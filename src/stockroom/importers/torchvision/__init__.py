"""torchvision's data sets: their files, and the formats of MNIST and CIFAR."""
