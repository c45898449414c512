"""Scores of label maps: confusion matrix, mIoU, trimap. NumPy and OpenCV only."""
