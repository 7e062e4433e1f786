// Shows the API's document. The key that a reader types in is kept in this page's memory only.
window.ui = SwaggerUIBundle({
  url: document.getElementById("documentation").dataset.document,
  dom_id: "#documentation",
  persistAuthorization: false,
  queryConfigEnabled: false,
  // The document is not sent to a validator elsewhere.
  validatorUrl: null,
});
