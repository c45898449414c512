"""Scores of label maps: confusion matrix, mIoU, trimap. Neither torch nor the networks."""
