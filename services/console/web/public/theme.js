// Before the first paint, so that a page that is to be dark does not flash white.
try {
  const theme = localStorage.getItem("steerline.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing shows the theme of its system.
}
