"""What looks after the machine: the doctor, and JupyterLab's server without delay."""
