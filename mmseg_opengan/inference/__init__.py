"""A trained or plain model on images, folders and videos."""
