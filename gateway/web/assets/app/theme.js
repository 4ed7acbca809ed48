// Sets the theme before the first paint. "system" follows the operating system.
try {
  const theme = localStorage.getItem("gateway-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage, follow the operating system.
}
