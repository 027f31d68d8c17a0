"""The specification's portfolio under several laws, alone and among agents who move prices."""
