// Sets the theme before anything is drawn; "system" follows the machine.
try {
  const theme = localStorage.getItem("gateway-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage: the machine's own theme.
}
