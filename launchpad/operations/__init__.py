"""What an operator needs beside the queue: retention, quotas, notifications."""
