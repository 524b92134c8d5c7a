"""What a recording's technical traits alone say of a task's labels: the shortcut audit."""
