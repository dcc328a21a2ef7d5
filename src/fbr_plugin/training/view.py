from fbr_plugin.view import DenseView, FBRTerms  # noqa: F401
