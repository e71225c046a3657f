// Before anything is drawn: the theme that was chosen here last, if it was not the system's.
document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "auto";
