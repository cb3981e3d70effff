"""Every measured claim of this project, as a script that anyone can run."""
