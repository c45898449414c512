"""What the test servers of VOC and Cityscapes take, packed from a row's label maps and checked."""
