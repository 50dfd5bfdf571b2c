"""The datatrove blocks of the filter stage; imported on the node only, since datatrove is heavy."""
