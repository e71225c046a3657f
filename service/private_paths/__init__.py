"""Folders and files that no other user of the machine may read or change.

Trusted users are root, the user of this process, and the user of the service's image, which owns the image's
volumes. The user's groups are trusted as well: a volume often belongs to root and to a group of the service.
Every folder above a private one must be safe too, because a user who can write to it can replace the private
one.
"""
