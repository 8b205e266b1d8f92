"""Files on local disks: cut into records, followed over rotation, written so that a checkpoint can cut them back."""
