"""Files of instances: COCO's codes of masks, a JSON file for each image, VOC's pairs of PNGs."""
